"""Native /v1 routes."""
