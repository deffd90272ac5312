"""What all tests share."""

import signal

# Programs that a shell runs in the background ignore Ctrl-C, those of nohup the end of a session; what tests
# start and interrupt would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
