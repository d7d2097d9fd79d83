"""The HTTP edge: routes and views. It reads the ledger, submits requests, and never commits or touches the engine."""
