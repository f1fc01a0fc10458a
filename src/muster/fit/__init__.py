"""How many guests of an image, under a user's load, a host of any OpenStack cloud holds before they answer too slowly.

What belongs here: adding and removing guests through the public APIs (`client/`), measuring how they answer, the search
for the knee (`search`, pure), and the table. Nothing of Muster's own control plane is imported.
"""
