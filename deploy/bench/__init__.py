"""`make bench`: how fast the product is, beside yardsticks measured in the same run (docs/performance.md)."""
