"""Bounds on the distance to the nearest adversarial example, and what each may be taken for. One bound a file."""

from meseta.certificates.auto_lirpa import AutoLirpa
from meseta.certificates.base import Certificate, Estimate, Proxy, Radius, RadiusBound
from meseta.certificates.binary_taylor import BinaryTaylor
from meseta.certificates.cross_lipschitz_estimate import CrossLipschitzEstimate
from meseta.certificates.curvature_certificate import CurvatureCertificate
from meseta.certificates.holder_estimate import HolderEstimate
from meseta.certificates.linear_piece import LinearPiece
from meseta.certificates.lipschitz_certificate import LipschitzCertificate
from meseta.certificates.loss_taylor import LossTaylor
from meseta.certificates.multiclass_taylor import MulticlassTaylor
from meseta.certificates.taylor import loss_gap, taylor_radius

__all__ = [
    "AutoLirpa",
    "BinaryTaylor",
    "Certificate",
    "CrossLipschitzEstimate",
    "CurvatureCertificate",
    "Estimate",
    "HolderEstimate",
    "LinearPiece",
    "LipschitzCertificate",
    "LossTaylor",
    "MulticlassTaylor",
    "Proxy",
    "Radius",
    "RadiusBound",
    "loss_gap",
    "taylor_radius",
]
