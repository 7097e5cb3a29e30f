"The command `x2face`, also as `python -m x2face_nb`. Until its code is imported, Ctrl-C ends the process without a traceback."
from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal  # built in; `signal` itself imports for milliseconds


def main():
    if getsignal(SIGINT) is default_int_handler: signal(SIGINT, SIG_DFL)
    from x2face_nb.cli import main as run
    run()


if __name__ == "__main__": main()
