"""Tissues of a scene, and the mapping from the structures of the trunk atlas to them."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

IGNORE = 255
"""Target label of voxels whose label depends on convention (aortic arch, distal pulmonary arteries)."""


class Region(IntEnum):
    """Tissue ids of a region map (uint8). Ids 1-12 equal those of the shape model's label maps."""

    AIR = 0
    LV_BLOOD = 1
    RV_BLOOD = 2
    LA_BLOOD = 3
    RA_BLOOD = 4
    LV_MYO = 5
    AO_BLOOD = 6
    PA_BLOOD = 7
    RV_WALL = 8
    LA_WALL = 9
    RA_WALL = 10
    AO_WALL = 11
    PA_WALL = 12
    MEDIASTINAL_FAT = 13
    LUNG = 14
    LUNG_VESSEL = 15
    MUSCLE = 16
    FAT = 17
    CORTICAL_BONE = 18
    MARROW = 19
    LIVER = 20
    SOFT_ORGAN = 21
    GAS = 22
    DESCENDING_AORTA = 23
    VESSEL_WALL = 24
    SVC = 25
    IVC = 26
    PULMONARY_VEIN = 27
    OESOPHAGUS = 28
    DISTAL_PA = 29
    CORONARY = 30
    PAPILLARY = 31
    TRABECULA = 32
    LEFT_VALVE = 33
    RIGHT_VALVE = 34
    ARCH = 35
    DISC = 36
    METAL = 37
    CALCIUM = 38
    CORONARY_SINUS = 39
    ATELECTASIS = 40
    FALSE_LUMEN = 41
    AIRWAY = 42
    SKIN = 43
    CARTILAGE = 44
    STOMACH = 45
    LIVER_VESSEL = 46
    INFILTRATE = 47
    EFFUSION = 48
    LYMPH_NODE = 49
    BLOB_0 = 50
    BLOB_1 = 51
    BLOB_2 = 52
    BLOB_3 = 53
    BLOB_4 = 54
    BLOB_5 = 55
    TABLE = 56
    BOWEL = 57
    KIDNEY = 58
    SPLEEN = 59
    BLADDER = 60
    PANCREAS = 61
    GALLBLADDER = 62
    ARTERY = 63
    VEIN = 64
    THYROID = 65
    SPINAL_CORD = 66
    GLAND = 67
    SCAR = 68
    PERICARDIUM = 69
    THROMBUS = 70
    UNSEEN = 255


N_REGIONS = 256

TARGET_OF_HEART = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0], np.uint8)
"""Training label of each shape-model label 0-12: blood pools, LV myocardium, great vessels; walls are background."""


def trunk_region(structure: str) -> Region:
    """Tissue of a structure, given its name in TotalSegmentator."""
    for prefix, region in _BY_PREFIX:
        if structure.startswith(prefix):
            return region
    return Region.SOFT_ORGAN


_BY_PREFIX: tuple[tuple[str, Region], ...] = (
    ("lung_", Region.LUNG),
    ("rib_", Region.CORTICAL_BONE),
    ("vertebrae_", Region.CORTICAL_BONE),
    ("sternum", Region.CORTICAL_BONE),
    ("clavicula", Region.CORTICAL_BONE),
    ("scapula", Region.CORTICAL_BONE),
    ("humerus", Region.CORTICAL_BONE),
    ("femur", Region.CORTICAL_BONE),
    ("hip_", Region.CORTICAL_BONE),
    ("sacrum", Region.CORTICAL_BONE),
    ("skull", Region.CORTICAL_BONE),
    ("costal_cartilages", Region.CARTILAGE),
    ("heart", Region.MEDIASTINAL_FAT),
    ("atrial_appendage", Region.MEDIASTINAL_FAT),
    ("aorta", Region.DESCENDING_AORTA),
    ("superior_vena_cava", Region.SVC),
    ("inferior_vena_cava", Region.IVC),
    ("iliac_vena", Region.IVC),
    ("iliac_artery", Region.ARTERY),
    ("pulmonary_vein", Region.PULMONARY_VEIN),
    ("brachiocephalic_trunk", Region.ARTERY),
    ("brachiocephalic_vein", Region.VEIN),
    ("common_carotid", Region.ARTERY),
    ("subclavian", Region.ARTERY),
    ("portal_vein", Region.LIVER_VESSEL),
    ("trachea", Region.AIRWAY),
    ("esophagus", Region.OESOPHAGUS),
    ("liver", Region.LIVER),
    ("stomach", Region.STOMACH),
    ("colon", Region.BOWEL),
    ("small_bowel", Region.BOWEL),
    ("duodenum", Region.BOWEL),
    ("kidney", Region.KIDNEY),
    ("spleen", Region.SPLEEN),
    ("urinary_bladder", Region.BLADDER),
    ("pancreas", Region.PANCREAS),
    ("gallbladder", Region.GALLBLADDER),
    ("thyroid", Region.THYROID),
    ("spinal_cord", Region.SPINAL_CORD),
    ("brain", Region.SOFT_ORGAN),
    ("autochthon", Region.MUSCLE),
    ("gluteus", Region.MUSCLE),
    ("iliopsoas", Region.MUSCLE),
    ("adrenal", Region.LYMPH_NODE),
    ("prostate", Region.SOFT_ORGAN),
)
