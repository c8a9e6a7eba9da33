"""Schedules: how kernels run on a machine, and what schedules have to know of one (`target`)."""
