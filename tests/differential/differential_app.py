"""The app of a real worker's process: `celery -A differential_app worker`."""

import json
import os

from differential_tasks import make_app

app = make_app(**json.loads(os.environ["DIFFERENTIAL_SETTINGS"]))
