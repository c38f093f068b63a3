"""Everything that gets Counterfoil running on one machine: no container engine, no installed services."""
