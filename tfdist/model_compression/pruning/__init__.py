"""Zeros where weights are worth least: criteria, schedules, allocations, structures."""
