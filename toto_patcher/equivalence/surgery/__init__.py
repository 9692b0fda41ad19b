"""The check `surgery`: a model, its classes or torch change between forecasts; upstream answers, or its path."""
