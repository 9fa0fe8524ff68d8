//! Append-only topic logs: segments, batches, memory tail, journals of acknowledgements, recovery.
