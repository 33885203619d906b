"""Content credentials: what the signed statement in a picture (a C2PA manifest) says, and whether it holds."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A signed statement as it was found in a file.

    Attributes:
        whole: The signature is good and the file is the one that was signed, to the byte.
        trusted: The certificate leads to a root that the operator trusts.
        signed_by: Organisation and name in the certificate.
        generator: The program that made the claim, with its version.
        declared_generated: It says that a trained model made the picture.
        problems: What speaks against it, as codes of the C2PA specification.
    """

    whole: bool
    trusted: bool
    signed_by: str
    generator: str
    declared_generated: bool
    problems: tuple[str, ...]
