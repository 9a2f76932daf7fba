"""What every test relies on."""
import signal

# Processes that a shell starts in the background ignore Ctrl-C, and so do theirs, of which some tests want to stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
