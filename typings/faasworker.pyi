from tinyfaas.child.faasworker import *
