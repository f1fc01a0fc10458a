"""`muster doctor`: what on a host makes many guests slow, or loses some of them.

Works on any Linux host, with or without Muster, as root or not. `reader` reads the machine once, by `tree`, `processes`
and `units`; a check is a pure function from the `facts` to results, so it is tested over made-up trees of files.
`diagnosis` lists them, `console` draws, `sysctls` is the only module that changes anything. docs/doctor.md says what
each check is about.
"""
