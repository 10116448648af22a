"""What was learnt: reads a study directory, needs neither torch nor ray."""

from analysis.load import Study, load_studies, load_study
from analysis.statistics.confirm import conclude

__all__ = ["Study", "conclude", "load_studies", "load_study"]
