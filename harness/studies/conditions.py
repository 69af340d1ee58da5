"""What is held fixed, as the column `covariates` of the tables of studies names it."""

NOTHING, CLASS = "nothing", "class"
