"""What was learnt: reads a study directory, needs neither torch nor ray."""

from analysis.load import Study, load_studies, load_study

__all__ = ["Study", "load_studies", "load_study"]
