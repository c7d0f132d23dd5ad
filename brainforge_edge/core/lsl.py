"""The configuration file that liblsl reads: who is looked for, and who may find us.

Source: labstreaminglayer.readthedocs.io/info/lslapicfg.html. Runs in: supervisor, workers, tools.
"""

from collections.abc import Sequence


def network_settings(
    *, scope: str = "machine", session: str = "default", peers: Sequence[str] = ()
) -> str:
    """Its text. By default only this machine is asked; keeping others from asking takes a firewall."""
    known = ", ".join(dict.fromkeys(["127.0.0.1", *peers]))
    ipv6 = "disable" if scope == "machine" else "allow"
    return (
        f"[ports]\nIPv6 = {ipv6}\n[multicast]\nResolveScope = {scope}\n"
        f"[lab]\nKnownPeers = {{{known}}}\nSessionID = {session}\n[log]\nlevel = -3\n"
    )
