"""What users really asked: logged by a service, looked at by people, taken back as rows."""
