"""What the tables of a study say: DataFrame → DataFrame, or frozen dataclasses of facts."""
