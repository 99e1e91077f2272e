"""The MLflow tracking server of the local stack."""
