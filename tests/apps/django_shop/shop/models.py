"""Orders, and what is paid for them."""

import uuid

from django.db import models


class Order(models.Model):
    customer = models.EmailField()
    cents = models.IntegerField(default=500)
    status = models.CharField(max_length=10, default="new")
    paid_at = models.DateTimeField(null=True)


class Payment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    order = models.ForeignKey(Order, models.CASCADE, related_name="payments")
    cents = models.IntegerField()
    made_at = models.DateTimeField(auto_now_add=True)


class Notice(models.Model):
    order = models.OneToOneField(Order, models.CASCADE, primary_key=True)
