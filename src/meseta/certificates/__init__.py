"""Bounds on the distance to the nearest adversarial example, and what each may be taken for. One bound a file."""

from meseta.certificates.base import Certificate, Estimate, Proxy, Radius, RadiusBound
from meseta.certificates.curvature_certificate import CurvatureCertificate
from meseta.certificates.linear_piece import LinearPiece
from meseta.certificates.lipschitz_certificate import LipschitzCertificate
from meseta.certificates.taylor import taylor_radius

__all__ = [
    "Certificate",
    "CurvatureCertificate",
    "Estimate",
    "LinearPiece",
    "LipschitzCertificate",
    "Proxy",
    "Radius",
    "RadiusBound",
    "taylor_radius",
]
