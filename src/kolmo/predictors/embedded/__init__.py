"""The predictors that ship with the package: context mixing, alone and with a recurrent network."""
