"""The only importer of MLflow. The outs in models/ are the truth; what MLflow holds is derived from them."""

import os
import warnings

# Before MLflow is imported, which reads most of these once. A value that the user has set stays.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; the default of 120, seven times, would hold a training up
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}.items():
    os.environ.setdefault(_name, _value)

# MLflow warns about its own type hints while it is imported, which is left to those who need it: it takes a second.
warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
