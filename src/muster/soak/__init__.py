"""Scripted users of any OpenStack cloud for hours: what fails, how long things take, by the versions that hosts run.

What belongs here: playing the users, counting, and the report. The cloud is known by its public APIs alone (`client/`).
`scenario`, `schedule`, `histogram`, `statistics`, `versions` and `report` are pure.
"""
