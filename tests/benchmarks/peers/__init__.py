"""Our models beside Surprise, implicit, EASE^R, PureSVD and popularity, on MovieLens; see ``__main__``."""
