"""From a trained torch model and a recipe to one artifact a hardware profile, with a report that proves it."""
