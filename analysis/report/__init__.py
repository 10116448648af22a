"""What the analysis writes: facts (findings), their words (wording), figures and the page."""
