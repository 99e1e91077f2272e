"""``python -I -m marquee_localstack '{"NAME": "value"}'``: LocalStack with exactly this environment.

LocalStack reads well over a hundred variables; what the user's shell holds for another LocalStack, or for
AWS, must not reach this one.
"""

import json
import os
import sys

if __name__ == "__main__":
    os.environ.clear()
    os.environ.update(json.loads(sys.argv.pop(1)))

    from localstack.runtime.main import main

    code: object = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Its services have ended; taking the interpreter apart would cost another second.
        os._exit(code if isinstance(code, int) else 1)
