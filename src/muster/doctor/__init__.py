"""`muster doctor`: what on a host makes many guests slow, or loses some of them.

Works on any Linux host, with or without Muster, as root or not. `facts` is the only module that reads the machine; a
check is a pure function from facts to results, so it is tested over made-up trees of files. `diagnosis` lists them,
`console` draws, `sysctls` is the only module that changes anything. docs/doctor.md says what each check is about.
"""
