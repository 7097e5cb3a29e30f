"The command `x2face`, also as `python -m x2face_nb`. Until its code is imported, Ctrl-C ends the process without a traceback."
import signal


def main():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler: signal.signal(signal.SIGINT, signal.SIG_DFL)
    from x2face_nb.cli import main as run
    run()


if __name__ == "__main__": main()
