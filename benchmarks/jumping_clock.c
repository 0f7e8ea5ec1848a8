/* Preloaded by `chaos_line.Clock`: the wall clock, moved by as many days as the file says that
   JUMPING_CLOCK names, read at each look. The monotonic clock stays, as when a machine's clock is set;
   so do the times that the kernel gives files, and deadlines by the wall clock. libfaketime 0.9.10
   moves deadlines of the monotonic clock as well: sleeping fails (its issue 426), waiting hangs (469). */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static char *path; /* read once: the program may change its environment meanwhile */

__attribute__((constructor)) static void remember(void)
{
    const char *given = getenv("JUMPING_CLOCK");
    path = given ? strdup(given) : NULL;
}

static time_t moved(void)
{
    char text[16] = "";
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    if (read(file, text, sizeof text - 1) < 0)
        text[0] = 0;
    close(file);
    return (time_t)strtol(text, NULL, 10) * 24 * 3600;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += moved();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return (time_t)-1;
    if (now)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
