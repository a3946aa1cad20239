"""What a person writes and runs: job specs and the command line."""
