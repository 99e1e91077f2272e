"""Past one machine: the same datasets trained by Spark's MLlib into the same models; see ``job``.

``launch`` runs in the project's environment, everything else in Spark's own.
"""
