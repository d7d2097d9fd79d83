"""The ledger: the only place with SQL. `ledger.py` opens it; everything else here is behind that door."""
