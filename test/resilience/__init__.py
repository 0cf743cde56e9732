"""Programs that are killed, machines that are odd, and nothing that is sent to anybody; ``python -m test.resilience``."""
