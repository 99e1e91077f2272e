"""What LocalStack in host mode lacks: Lambda functions as processes, EMF extraction, percentiles.

``runtime``, ``environment``, ``spawner``, ``report``, ``memory``, ``opt``, ``emf`` and ``percentiles`` know nothing
of LocalStack; ``executor``, ``cloudwatch``, ``logs``, ``lambda_service`` and ``plugins`` fit them into it.
"""
