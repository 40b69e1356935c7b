"""What every component writes: logs and flow records."""
