"""What every service gets for free: server, client, errors, deadlines, identity, telemetry, settings, storage."""
