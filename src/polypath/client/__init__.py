"""What runs in the user's process: thin, and needless for those who set three variables."""
