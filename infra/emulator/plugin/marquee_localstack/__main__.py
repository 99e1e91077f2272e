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

    main()
