"""The official scores of the challenges.

>>> from brats_infer.evaluate import lesionwise_scores
>>> lesionwise_scores(prediction, reference, "gli", spacing=(1, 1, 1))["WT"].lesionwise_dice  # doctest: +SKIP
"""

from brats_infer.evaluate.folder_scores import evaluate_folders
from brats_infer.evaluate.lesionwise import LesionScores, RegionScores, lesionwise_scores, scores_and_lesions
from brats_infer.evaluate.metrics2024.region_scores import LesionScores2024, RegionScores2024, scores_2024
from brats_infer.evaluate.scores import CohortScores
from brats_infer.evaluate.surface import hd95

__all__ = [
    "CohortScores",
    "LesionScores",
    "LesionScores2024",
    "RegionScores",
    "RegionScores2024",
    "evaluate_folders",
    "hd95",
    "lesionwise_scores",
    "scores_2024",
    "scores_and_lesions",
]
