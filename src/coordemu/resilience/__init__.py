"""Resilience: breaker, retry, rate limit, bulkhead, error classes, pool pressure, alerts and their configuration."""
