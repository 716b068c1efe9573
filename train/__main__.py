"""`torchrun -m corpusmill.train …`: the same as `corpusmill train …`."""

import sys

from corpusmill.train.commands.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
