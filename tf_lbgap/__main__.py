import sys

from tf_lbgap.cli import main

sys.exit(main())
