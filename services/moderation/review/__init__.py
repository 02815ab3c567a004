"""What moderation did, for people to look at: recorded, queued, decided, exported."""
