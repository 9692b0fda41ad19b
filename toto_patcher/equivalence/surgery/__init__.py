"""The check `surgery`: a model, its classes or torch change between forecasts; each time upstream's answer is wanted."""
