from tinyfaas.child.faascell import *
