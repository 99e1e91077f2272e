"""What LocalStack in host mode lacks: Lambda functions as processes, EMF extraction, percentiles, coding.

``apigateway``, ``executor``, ``lambda_provider``, ``lambda_service``, ``cloudwatch``, ``metrics_store``,
``logs`` and ``plugins`` fit into LocalStack what the other modules do without knowing it.
"""
