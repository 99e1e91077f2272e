"""Events to ids, sparse matrices and temporal splits."""
