"""Training commands: composed from choices, printed, run as processes that end with their parent, watched."""
