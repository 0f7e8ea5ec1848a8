"""What is said of an address and of its errors, without what is secret."""

from monoglot.addresses import told

ADDRESS = "abfs://me:pw@host/box/kb.csv?ss=b&sp=r&sig=a1b2c3d4%2Fe5%3D"


def test_a_secret_is_not_told_however_it_is_quoted():
    for quoted in (ADDRESS, "sig=a1b2c3d4%2Fe5%3D", "xa1b2c3d4/e5=x", "by me:pw@host"):
        text = told(f"GET {quoted} failed", ADDRESS)
        assert "a1b2c3d4" not in text
        assert "pw" not in text.replace("***", "")


def test_a_short_secret_hides_no_letter_of_another_word():
    error = "ListBlobs failed: sp=r, ss=b is not permitted"
    assert told(error, ADDRESS) == "ListBlobs failed: sp=***, ss=*** is not permitted"
